// Package v1alpha1 holds the API of the MQTT token operator: MqttInstance and MqttTokenGrant.
//
// +kubebuilder:object:generate=true
// +groupName=mqtt.tokengrant.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group, and the prefix of every annotation, label and finalizer.
const GroupName = "mqtt.tokengrant.dev"

// GroupVersion names this version of the API.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}
}

// AddToScheme makes both kinds known to a scheme. It never fails; the error is there for runtime.SchemeBuilder.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(), &MqttInstance{}, &MqttInstanceList{}, &MqttTokenGrant{}, &MqttTokenGrantList{})
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
